"""Trains and compresses models in the pods of a CycleJob.

- ``cli``:         the four commands: worker, launch, train, compress
- ``worker``:      sshd of a worker pod; ``launch``: waits for the workers and runs mpirun
- ``train``:       one rank, from joining the world to the saved model; ``loop`` is the training loop itself
- ``tasks``:       what is particular to a task: data, model, loss
- ``collective``:  what ranks do together (Horovod), or a single process instead
- ``compress``:    baselines and variants of a trained model
"""
