"""What the user asks for: the suite file, checked and resolved, and the plan of trials and cells that it makes."""
