"""Pack results for the TrackingNet server: a zip in the result folder, refused while a sequence is missing.

python tracking/transform_trackingnet.py --tracker_name ostrack --cfg_name vitb_256_mae_ce_32x4_ep300
"""

import sys

import _bootstrap  # noqa: F401

from tracking._submission import submission_command

if __name__ == "__main__":
    sys.exit(submission_command("trackingnet", __doc__ or ""))
