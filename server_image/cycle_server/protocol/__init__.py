"""How clients speak to the server."""
