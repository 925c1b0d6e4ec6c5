"""What `make run` shows last: untrusted code, in a sandbox."""

import pycontain

CODE = """\
import os
files = [name for name in os.listdir('/work')]
processes = [name for name in os.listdir('/proc') if name.isdigit()]
print('In a sandbox I see', files, 'and', len(processes), 'process.')
sum(map(int, open('numbers.txt')))
"""

with pycontain.Sandbox(files={"numbers.txt": b"40\n2\n"}) as box:
    result = box.run_python(CODE)
print(f"{result.text}The value is {result.value}, after {result.wall * 1000:.0f} ms.")
