"""The main job: an index of a tree of Python source. See job.py."""
