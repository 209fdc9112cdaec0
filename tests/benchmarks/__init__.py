"""Speed, measured side by side. Not tests: nothing here is collected by pytest."""
