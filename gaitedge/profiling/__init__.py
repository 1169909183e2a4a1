"""How fast is an engine, where does its time go, and is one faster than another?"""
