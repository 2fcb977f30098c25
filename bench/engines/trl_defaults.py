"""TRL as it comes."""

from case import read_order
from trl_trainer import train

if __name__ == "__main__":
    train(read_order())
