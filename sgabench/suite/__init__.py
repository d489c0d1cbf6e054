"""What the user asks for: the suite file, checked and resolved, and its plan of trials and cells."""
