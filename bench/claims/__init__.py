"""What techniques are said to do to T and accuracy, and what they do here."""
