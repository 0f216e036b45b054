"""The page for those who write a paper: the items of reporting guidelines, with what a run can say to each."""
