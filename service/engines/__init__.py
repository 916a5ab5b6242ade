"""Where training runs. An engine moves events out of a trainer; it never touches the store."""
