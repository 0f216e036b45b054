"""The gallery: which test exams are shown, and a page for each as radiologists hang them."""
