"""The server and its sidecar under an even load for a long time: is their memory flat?"""
