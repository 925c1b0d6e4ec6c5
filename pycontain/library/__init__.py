"""
Containers from a Python program: what `import pycontain` offers.

    container  `run`, `Container`
    result     `Result`: how a program ended
    pipes      a program's standard streams
    pool       warm workers, from the program's side
    worker     a worker itself: the other end of the socket
    messages   the messages on the socket

The program itself never forks. Its first call starts a worker, which takes as long as starting
Python; after that, a container takes a few milliseconds, in programs with threads, too. Concurrent
calls from several threads use one worker each.
"""
