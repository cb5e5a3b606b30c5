"""Plans for models that generate text: continuous batching, time to first token, time per output token.

``docs/concepts/planning-generation.md`` is the mathematics. ``planner.plan`` comes here when profiles have rows of
generation.

    laws, times     prefill and step, fitted from the profile      kernel, rules   continuous batching, compiled
    simulate        the data path                                  outcomes        what is said of a simulation
    evaluate        one choice, simulated                          search, nearest the search
    explain         the sentences                                  planning        from a problem to a result
"""
