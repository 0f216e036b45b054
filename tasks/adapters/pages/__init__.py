"""What people look at: self-contained HTML pages, their charts and pictures."""
