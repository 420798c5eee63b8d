"""Studies: methods x scenarios x seeds, tuned alike, each run cached by what determines it."""
