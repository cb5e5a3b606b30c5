module cycle/testbed/pause

go 1.26
