"""The other servers, each as its own documentation shows it. They run in /opt/peers, where nothing else of ours is."""
