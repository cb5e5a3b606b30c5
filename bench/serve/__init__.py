"""The server beside its peers: LitServe, KServe's python server, bare FastAPI, and the model called directly."""
