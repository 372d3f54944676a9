"""The commands: their signatures are the help texts."""
