"""The methods that SAVO is compared with (paper, §6.1), one file each: policy first, then algorithm."""
