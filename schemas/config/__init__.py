"""What a run is told: one frozen section of the YAML file in each module."""
