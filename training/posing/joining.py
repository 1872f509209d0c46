"""The images that a structure was not made from: each finds its pose by the points that it matches, and adds what it sees."""

from pathlib import Path

from tqdm import tqdm


def join(pycolmap, model, database: Path, options, total: int):
    """The reconstruction with those of the `total` images in a database that belong to it; nothing is adjusted.

    options: the mapper's, all images.
    """
    wanted = pycolmap.DatabaseCacheOptions()
    wanted.min_num_matches = options.min_num_matches
    with pycolmap.Database.open(database) as stored:
        cache = pycolmap.DatabaseCache.create(stored, wanted)
    mapper = pycolmap.IncrementalMapper(cache)   # the cache must outlive it
    mapper.begin_reconstruction(model)
    with tqdm(total=total, initial=model.num_reg_images(), desc='joining', unit='image', leave=False, mininterval=2.0) as bar:
        while sum(_joins(mapper, options, number, bar) for number in mapper.find_next_images(options.get_mapper(), False)):
            pass   # as long as one more is known, others may be next to it
    mapper.end_reconstruction(False)
    return model


def _joins(mapper, options, number: int, bar: tqdm) -> bool:
    found = mapper.register_next_image(options.get_mapper(), number)
    if found:
        mapper.triangulate_image(options.get_triangulation(), number)
        bar.update()
    return found
