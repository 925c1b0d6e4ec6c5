"""
From an image, or a root file system, to a bundle.

    reference  the names of images: which transport, which place
    tools      skopeo copies an image, umoci unpacks its layers
    layout     the configuration in an image, as the OCI image specification has it
    store      the cache: each image is unpacked once, and never changed
    accounts   users and groups by name
    choices    an image's configuration and a person's choices to the settings of `spec.default`
    layers     what a container writes goes to a layer of its own, above the image
    folder     the bundle that is made for one container
    run        all of it, one after the other
"""
