"""Driving in a town: streets with lights and other cars, and a planner of routes above the driver."""
