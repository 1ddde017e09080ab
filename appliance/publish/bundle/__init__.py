"""Sticks at headquarters: releases carried out to machines without a network, and their status when it comes back."""
