"""Every option of the commands, defined once: by Python, the command line and YAML alike."""
