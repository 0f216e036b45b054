"""The Prefect server, what is registered there, and the workstation that stays up."""
