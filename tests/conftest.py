"""One thread a test process: tests run side by side, and oversubscribed threads wait."""

import torch

torch.set_num_threads(1)
