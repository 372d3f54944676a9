"""Campaigns: a run cut into units that any number of workers finish, in any order, once each."""
