"""One module per group of commands. Each imports the rooms it needs inside its functions' modules, lazily."""
