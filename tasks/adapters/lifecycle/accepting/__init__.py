"""Is a model fit for a site: its exams, what the rules of the config say of them, and a threshold for each device."""
