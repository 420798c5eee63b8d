"""How clients and server meet: what travels between them, and in which form."""
