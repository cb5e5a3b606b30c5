"""The operator's loop: watches, queue, store, apply, report server. Knows no kind of ours in particular."""
