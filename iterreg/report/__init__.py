"""Shows what evaluated runs say: figures, and one self-contained HTML file."""
