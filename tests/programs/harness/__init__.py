# SPDX-License-Identifier: GPL-2.0-only
"""What the cases stand on: programs and their leaks, clients, waiting."""
