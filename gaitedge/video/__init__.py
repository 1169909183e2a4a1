"""How does a camera become walks of aligned silhouettes?"""
