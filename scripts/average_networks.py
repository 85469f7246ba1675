"""The mean of two networks' weights, one of which went on from the other (Wortsman et al., Model soups, ICML 2022).

python scripts/average_networks.py first.safetensors second.safetensors --output lite_mean
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from lib.models import WeightsError, read_checkpoint, save_release


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path, help="network with its .json, whose settings are those of the mean")
    parser.add_argument("second", type=Path, help="network that was trained on from the first one")
    parser.add_argument("--output", type=Path, required=True, help="file to write, without its ending")
    args = parser.parse_args()
    try:
        found, second = read_checkpoint(args.first), read_checkpoint(args.second).state_dict
    except (WeightsError, OSError) as error:
        parser.error(str(error))
    first, metadata = found.state_dict, found.metadata
    if first.keys() != second.keys() or any(first[k].shape != second[k].shape for k in first):
        parser.error(f"{args.second} has other tensors than {args.first}")
    if "initial" not in metadata:
        parser.error(f"{args.first} is no release of a training of this project: its .json has no `initial`")
    mean = {k: (v + second[k]) / 2 if v.is_floating_point() else v for k, v in first.items()}
    initial = f"{metadata['initial']}; the mean with a second training that went on from this one"
    print(save_release(args.output, mean, {**metadata, "initial": initial}))


if __name__ == "__main__":
    main()
