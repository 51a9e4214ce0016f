"""What `bench` measures with: the processes, the load, and the cases. Not imported by anything
else.
"""
