import torch as th

# The networks here are tiny: one thread is as fast as several, and does not wait for the others on a busy machine
th.set_num_threads(1)
