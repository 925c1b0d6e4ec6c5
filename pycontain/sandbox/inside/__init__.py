"""
What runs in a sandbox: nothing here is trusted by the program outside.

    snippet     runs Python code that it reads from a socket, in every sandbox
    forkserver  the first process of a pool's container, which forks for each run
"""
