"""Does restoring before classifying change diagnoses for the better, for whom, and whom does it harm?"""
