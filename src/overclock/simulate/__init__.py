"""The clock on a machine that only lets time pass: what a load would be like on this computer."""
