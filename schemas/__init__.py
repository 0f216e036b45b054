"""The words of the house: records, store layout, configs, reports and errors. Imports nothing of ours."""
