"""What may come in: foreign bytes are opened in a limited child process and judged by rules."""
