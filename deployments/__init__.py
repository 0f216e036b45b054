"""Where it runs: the command line, Prefect services and deployments, shipped configs. Environment is read only here."""
