"""What peers send to us on their own: exams, and the question whether these are safe."""
