"""What travels: messages, payload forms, frames. Pure: no pool, no pairs, no recipe."""
