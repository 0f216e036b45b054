"""The way out: what was predicted of an exam goes back into the patient's own study, as objects that a viewer shows."""
