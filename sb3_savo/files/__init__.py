"""
Files that can be trusted: written whole or not at all, read without executing what they hold, refused if they are damaged.

- ``atomic``: a file or a folder is written aside, synced and renamed.
- ``pickles``: pickles of Stable-Baselines3's kind, of which an allow-list of names is read and nothing is executed.
- ``archives``: zips whose sizes are checked before they are read, and whose digest finds every flipped bit.
- ``tensors``: the files of ``torch.save``. ``arrays``: those of ``numpy.save``.
- ``models``, ``policies``, ``replay_buffers``, ``normalization``: what a zip, a policy's file and so on consist of.
"""
