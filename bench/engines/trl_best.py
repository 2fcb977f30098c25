"""TRL with its best flags for these cases: activations are kept, as memory allows it."""

from case import read_order
from trl_trainer import train

if __name__ == "__main__":
    train(read_order(), gradient_checkpointing=False)
