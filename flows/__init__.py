"""The score: which stage follows which, what fans out, what is reported."""
