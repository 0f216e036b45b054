"""Where exams are read from: a folder, or a bucket."""
