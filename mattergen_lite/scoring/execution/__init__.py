"""How judging is spread over processes and remembered."""
